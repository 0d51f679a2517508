"""Small files of a site, against other servers of the same folder."""
