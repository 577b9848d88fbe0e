"""The command line: parse, build parameters, call the pipeline, echo."""
