import sys

from bertkernels.cli.main import main

sys.exit(main())
