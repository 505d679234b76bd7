"""How good a bundle is on traces, beside what an engineer would use instead.

`cases` reads what is true, `scan` scores a trace once, `judge` runs every detector over it in that
pass, `summary` makes the report of what they told, `tables` and `document` show it; `study` is the whole.
"""
