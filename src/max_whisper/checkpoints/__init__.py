"""Any checkpoint format -> dimensions and canonical arrays."""
