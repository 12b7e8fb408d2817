"""`python -m unet_seg`."""

from unet_seg.cli import main

raise SystemExit(main())
