"""What several apiservers on one ledger cost: ``bell`` is how they wake one another."""
