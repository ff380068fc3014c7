"""Recording inside an adopter's own tests: what the fixture ``kvsender_history`` is made of.

``wrapper`` stands in the place of an object and tells of some of its calls; ``agent`` and ``sender`` say what those
calls are in a history; ``ledger`` is what they share; ``fixture`` is what the test is given; ``judging`` says what the
history of a test comes to.
"""
