"""Values, functions and errors as bytes: pickle 5 with out-of-band buffers, cloudpickle where it must be."""
