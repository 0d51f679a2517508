"""What each route does: one module for each kind of thing. ``web.routes`` is the table that names them."""
