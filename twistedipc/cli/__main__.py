"""``python -m twistedipc.cli`` is the command `twistedipc`."""

from twistedipc.cli.main import main

if __name__ == "__main__":
    main()
