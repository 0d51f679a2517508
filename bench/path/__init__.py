"""The whole way of a log, from a build's write to a viewer, through both services as they are."""
