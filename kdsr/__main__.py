"""``python -m kdsr`` is the `kdsr` command."""

from kdsr.cli import main

if __name__ == '__main__':
    main()
