"""What of a result is hidden. Values come in with what is known of their column; they go out hidden or as they came.

Pure.

`kinds`        a type's OID -> whether it is text, and a value of it that says nothing
`detectors`    which parts of a text look like something that must be hidden
`hiding`       what stands for a hidden text: `***`, NULL, a part, a token that is the same for the same text
`json_text`    leaves within JSON, by path
`array_value`  arrays, element by element
`masker`       what hides the values of one column
`values`       a mask, a type, a format -> its masker
`rows`         PostgreSQL's DataRow messages, in C speed where the hot modules are compiled
`copy`         PostgreSQL's COPY streams; `copy_text`, `copy_csv`, `copy_binary` are its formats

Always: of a column that is hidden by `hide` or `null` no byte goes out, not even its length; NULL stays NULL; what is
not hidden stays as it was, byte for byte; and what cannot be read is hidden whole (a value) or refused (a message).
"""
