"""Placeholders: made, swapped for the secret in named slots, and put back for the secret in all that comes back. Pure.

    shapes      the placeholder's text: length and shape of the real one, at least 128 random bits
    slots       the request: a placeholder in its slot becomes the secret; anywhere else it stays, and is noted
    forms       what a secret may look like in a response
    scrub       the response: every form of a secret becomes the same form of its placeholder, in any chunking
    coding      the same within gzip, deflate, br and zstd bodies, in bounded pieces
    handshakes  logins by proof: the agent has to know its placeholder, the server is shown that we know the secret
    saslprep    the form of a password that SCRAM computes with

Always: a placeholder has exactly its secret's length, and each form is replaced in its own style, so that a body
keeps its length. What the agent decodes from a scrubbed answer is the placeholder, with its neighbours untouched.

FORMS that are found, each at any place, cut anywhere between chunks:
    plain; hex; base64 and base64url at each of the three offsets, also broken into lines;
    any mix of plain characters with percent escapes (also twice), JSON/JavaScript escapes (`\\u00XX`, `\\xXX`, `\\/`),
    HTML character references (decimal, hexadecimal, the five names).

LIMITS. A service that transforms a credential in any other way (reversed, cut in pieces, hashed, encrypted, another
encoding on top of base64) is not seen through: a destination gets the real secret, and one that helps an agent to
smuggle it out is not a destination to trust with it.
"""
