"""What of a result is hidden. Values come in with what is known of their column; they go out hidden or as they came.

Pure.

`values`      how one value is hidden: all of it, a part, by a token that is the same for the same value
`detectors`   which values look like something that must be hidden
`rows`        PostgreSQL's DataRow messages, in C speed where the hot modules are compiled
`copy`        PostgreSQL's COPY streams: text, CSV, binary
"""
