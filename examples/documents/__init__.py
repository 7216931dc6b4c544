"""A tenant's application that digests documents: key terms, cross-references, a report."""
