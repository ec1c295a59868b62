"""`python -m proxy` is `crowdgate-proxy`."""

from proxy.cli import main

if __name__ == "__main__":
    main()
