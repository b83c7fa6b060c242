"""The command line as a module: `python -m apps`."""

from apps.cli import main

if __name__ == "__main__":
    main()
