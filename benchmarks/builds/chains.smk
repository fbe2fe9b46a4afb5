# The graph as one rule of snakemake, which is run in the folder.

def before(wildcards):
    step = int(wildcards.step)
    return f"made/{wildcards.chain}_{step - 1}.txt" if step else f"source{wildcards.chain}.txt"

rule all:
    input:
        expand("made/{chain}_9.txt", chain=range(int(config["count"])))

rule add_line:
    input:
        before
    output:
        "made/{chain}_{step}.txt"
    shell:
        "cat {input} > {output}; echo line {wildcards.step} >> {output}"
