"""A script that has scikit-learn fit estimators, and compares them with those that are fitted serially."""

from __future__ import annotations

__all__ = ["ESTIMATORS"]

ESTIMATORS = """
import joblib, numpy as np
import job_stream.joblib
from sklearn.datasets import make_classification
from sklearn.ensemble import RandomForestClassifier
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.svm import SVC

x, y = make_classification(200, 8, random_state=0)

def fitted():
    search = GridSearchCV(SVC(), {"C": [0.1, 1, 10], "kernel": ["linear", "rbf"]}, cv=3).fit(x, y)
    forest = RandomForestClassifier(20, random_state=0).fit(x, y)
    scores = search.cv_results_["mean_test_score"], cross_val_score(SVC(), x, y, cv=4), forest.predict_proba(x)
    return search.best_params_, [score.tolist() for score in scores]

def check(name):
    with joblib.parallel_config(backend=name, n_jobs=-1):
        assert fitted() == serially, name
    print(name, "the same", flush=True)

serially = fitted()
"""
