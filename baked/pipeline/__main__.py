"""``python -m job_stream.baked.pipeline``: what ``job_stream pipeline`` starts on each rank."""

import sys

from .pipeline_command import main

sys.exit(main())
