"""How the product comes to a cluster: a Helm chart, the manifests rendered from it, and the image."""
