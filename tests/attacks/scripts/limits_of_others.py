"""Say how much of the machine the builder may use: a limit of processor time would end it."""

import resource

from facts import known, reached

had = resource.prlimit(known.builder, resource.RLIMIT_CPU)
reached(resource.prlimit(known.builder, resource.RLIMIT_CPU, had))
