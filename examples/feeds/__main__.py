"""`python -m examples.feeds`; the processes of a pipeline load this module too, so it loads nothing then."""

if __name__ == "__main__":
    from examples.feeds.command import main

    main()
