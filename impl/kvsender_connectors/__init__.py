"""Published senders under the kit's check: what a release promises, and what it does.

No release's code is here. ``make connectors`` installs the wheels into a folder that git ignores and loads the senders
from there, unmodified; only what they stand on (agent, engine, clock, sockets) is the kit's.
"""
