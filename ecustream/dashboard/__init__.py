"""The local web page: what one or several running ecustreams say, live."""
