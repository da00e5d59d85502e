def test_a(pipeline, materialized_again):
    import subprocess

    print(subprocess.run(["find", str(pipeline.home)], capture_output=True, text=True).stdout)
    print(pipeline.table("evaluation").to_string())
    print(pipeline.document("autoint"))
    print(pipeline.table("top10_autoint").dtypes, pipeline.table("top10_autoint").head())
