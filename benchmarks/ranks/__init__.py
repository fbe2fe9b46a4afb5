"""Programs that run under mpirun, and what starts them: job_stream on two ranks, mpi4py.futures with two workers."""
