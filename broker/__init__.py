"""The Federation Broker."""
