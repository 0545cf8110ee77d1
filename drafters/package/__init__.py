"""The on-disk form of everything Drafters makes: manifests, the shippable artifact, exports."""
