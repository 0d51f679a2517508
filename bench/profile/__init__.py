"""Where does the time go? By Python's profiler, inside the services."""
