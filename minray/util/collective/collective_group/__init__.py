"""The groups behind the collective calls: what a backend must offer, and the backend that minray brings."""
