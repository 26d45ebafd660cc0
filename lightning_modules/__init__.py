"""Lightning modules, data modules and callbacks that wire the parts of tl_nla."""
