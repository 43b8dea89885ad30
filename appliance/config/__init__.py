"""The configuration: its shape, where everything is, and how a file becomes it.

schema  the shape (pydantic); unknown keys are errors
lines   YAML to a model, with one-sentence errors that name file, line, key and what is allowed
load    the configuration file
places  paths and accounts that follow from it
"""

DEFAULT_PATH = "/etc/coatcheck/coatcheck.yaml"  # here: the command line shows it, and reads no configuration for it
