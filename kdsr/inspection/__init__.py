"""Look into networks: attribution, diagnosis, patches where teachers fail."""
