"""What every layer may use: ids, resources, messages, events, errors, configuration. It imports none of them."""
