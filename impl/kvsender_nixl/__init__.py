"""The reference sender and the reference reader, on the real NIXL library.

Import the submodules: ``prefill`` (the prefill side: ``Prefill``, ``SenderOptions``), ``sender`` (``KVSender``),
``receiver`` (the decode side: ``Decode``, ``KVReceiver``), ``pull`` and ``reader`` (a decode side that reads:
``PullDecode``, ``KVReader``), ``buffers`` (``KVPool``, ``AuxBuffers``), ``exchange`` (what
the two sides tell each other) and ``agent`` (the only module that touches nixl). None of them needs nixl or torch to be
imported (KS-1.5).
"""
