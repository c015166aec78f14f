"""Path validation, step by step: whether a certificate is valid for a purpose and a name, and which check decides.

It knows nothing of files, of the network or of the clock: certificates, lists and the time are arguments (RFC 5280,
section 6; RFC 9525 for names). A library that only says yes or no is quicker; this one answers what to mend.

```
model        what is asked, and what is answered
facts        one certificate taken apart once, malformed ones too
build        which paths lead from the certificate to an anchor (RFC 4158)
steps        the checks of one certificate in a path
constraints  name constraints of the CAs above it
hosts        the name that was asked for
revocation   lists of revoked certificates
validate     all of it in order: `verify`
```

Stricter than RFC 5280 where TLS is: a CA certificate is no leaf, `anyExtendedKeyUsage` names no purpose, the key must
be allowed to sign, SHA-1 and RSA below 2048 bits are refused everywhere in the path. The broker refuses the same.
"""

from sealmq.pki.paths.model import Path, Question, Report, Step, Verdict
from sealmq.pki.paths.validate import verify

__all__ = ["Path", "Question", "Report", "Step", "Verdict", "verify"]
