"""`python -m paraformer_asr`."""

import sys

from paraformer_asr.cli import main

sys.exit(main())
