"""``python -m job_stream`` is the command ``job_stream``."""

from .launcher.cli import main

if __name__ == "__main__":
    main()
