"""What the operator has set: the node's CNI configuration, ``eni-config``, and what terwayd itself is told.

Each file reads one thing into frozen values whose fields say what they mean; ``eni_conf`` is the largest.
A wrong value is a ``control.model.errors.ConfigError`` that names key, value and what is allowed. An unknown
key is a warning in the value's ``warnings``, since upstream's parser ignores unknown keys and the ConfigMaps
of real clusters carry them.
"""
