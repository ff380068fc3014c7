"""The lab: real processes, real NIXL, real faults."""
