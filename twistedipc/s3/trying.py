"""Whether a bucket can be used as it is to be: tried with an object of its own. Used by `twistedipc doctor`."""

from __future__ import annotations

import os

from twistedipc.s3.bucket import Bucket, Missing, Unavailable

#: Before the name of the object that is put there.
_FOLDER = "doctor/"


def why_unusable(bucket: Bucket) -> str:
    """Return why a bucket can't be used: which right is missing, or that nothing answers; "": it can."""
    name = f"{_FOLDER}{os.urandom(8).hex()}"
    doing = "an object can't be looked for (s3:GetObject; and s3:ListBucket, or one that is missing looks forbidden)"
    try:
        try:
            bucket.get(name, 1)
        except Missing:
            pass
        doing = "objects can't be listed (s3:ListBucket)"
        list(bucket.objects(_FOLDER))
        doing = "no object can be put there (s3:PutObject)"
        bucket.put(name, b"twistedipc", new=True)
        doing = "what was put there can't be read (s3:GetObject)"
        same = bucket.get(name, 100) == b"twistedipc"
        doing = "what was put there can't be removed (s3:DeleteObject)"
        bucket.remove(name)
    except Missing:
        return f"{bucket.place} has lost what was just put there"
    except Unavailable as error:
        return f"{doing}: {error}"
    return "" if same else f"{bucket.place} gives back something else than was put there"
