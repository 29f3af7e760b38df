"""The product's image, built without a registry and without a container daemon.

``base`` makes the system by mmdebstrap, ``stage`` what is put on top of it, ``buildah`` the image by
deploy/Containerfile, ``cache`` keeps what did not change, which ``ingredients``
tells. ``python -m deploy.image --help`` says the rest.
"""
