"""Codecs: hostile bytes in, frozen facts out. Pure: no I/O, no clock, no log.

    names   canonical host names and address literals, shared by all that compare names
    tls     ClientHello (SNI, ALPN, versions, ECH)
    http1   readers: bytes -> events; writers: fields -> bytes (`http1` is the door to five modules)
    target  request target -> path for policy, query pieces that go out as they came in
    websocket  frames of a server: where each begins and ends
    postgres  messages of both sides: framing, bodies, writers (the door to five modules)
    dns     questions and responses of a forwarder

What always holds: whatever is not plainly right raises PeerError and nothing else; nothing is repaired; memory is
bounded by limits that the caller gives or that stand beside the code. Codecs do not know each other (but
`names`; and `target` knows the grammar of http1).
"""
