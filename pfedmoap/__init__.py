"""pFedMoAP: personalised federated prompt learning on a frozen CLIP (ICLR 2025)."""
