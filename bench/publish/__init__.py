"""From a request to the release that answers, against the same done by hand: clone, install, build."""
