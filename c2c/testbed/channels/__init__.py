"""The channels of this package; `c2c.testbed.registry` names them."""
