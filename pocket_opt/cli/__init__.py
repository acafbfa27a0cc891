"""The command line: a dispatcher, one module a verb, and what a person sees while a variant runs."""
