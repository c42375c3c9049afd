"""The command `graft`."""

from graft.cli.app import main

if __name__ == "__main__":
    main()
