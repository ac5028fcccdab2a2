"""Whether a method does what its docstring says: few members, few points, seconds."""
