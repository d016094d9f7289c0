"""Classical machine learning: from the normal equations to gradient boosting, a family a file."""
