"""``python -m kvsender_spec`` is the command ``kvsender``."""

from kvsender_spec.cli import main

if __name__ == "__main__":
    main()
