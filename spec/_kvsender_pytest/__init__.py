"""The pytest plugin of kvsender-spec.

It is a package of its own, because pytest loads it in every project whose environment has kvsender-spec installed.
Importing it must not import hypothesis or the kit: an early import slows such a project down, and hypothesis warns
about it.
"""
