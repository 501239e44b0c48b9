"""An index that lives in Milvus: on a server, or in a file of Milvus Lite.

``simat index push`` copies an index there, with its space and all that is known of its images; what opens it then is
:func:`simat.open` with the same address.
"""

from simat.milvus.address import Address, is_address

__all__ = ["Address", "is_address"]
